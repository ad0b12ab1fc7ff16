// Prints the things in a film and the product that each may be:
//   node annotate.js localhost:50050 film.mp4 catalogs/sample
import { MatchDecision, ShoppableClient } from "../src/index.js"; // yours: "@shoppable/client"

const [target = "", file = "", catalog = ""] = process.argv.slice(2);
const client = new ShoppableClient(target);
for await (const { response } of client.annotate({ file }, { catalog })) {
  if (response.case === "object") {
    const { label, decision, products } = response.value;
    console.log(label, MatchDecision[decision], products[0]?.product?.title);
  }
}
client.close();
