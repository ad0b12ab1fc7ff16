// Prints the things in a film and the products that each may be:
//   node annotate.js localhost:50050 film.mp4 catalogs/sample
import { MatchDecision, ShoppableClient } from "../src/index.js"; // yours: "@shoppable/client"

const [target = "", file = "", catalog = ""] = process.argv.slice(2);
const client = new ShoppableClient(target);
for await (const { response } of client.annotate({ file }, { catalog })) {
  if (response.case === "object") {
    for (const match of response.value.products) {
      console.log(response.value.label, MatchDecision[match.decision], match.product?.title);
    }
  }
}
client.close();
