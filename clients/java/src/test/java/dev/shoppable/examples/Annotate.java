package dev.shoppable.examples;

import dev.shoppable.client.Channels;
import dev.shoppable.client.ShoppableClient;
import dev.shoppable.client.Source;
import dev.shoppable.v1.AnnotateOptions;
import dev.shoppable.v1.ProductMatch;
import java.nio.file.Path;

/** Prints the things in a film and the products that each may be: HOST:PORT film.mp4 catalogs/sample. */
public final class Annotate {
  private Annotate() {}

  /** Runs the example. */
  public static void main(String[] arguments) {
    var channel = Channels.to(arguments[0]).open();
    var options = AnnotateOptions.newBuilder().setCatalog(arguments[2]).build();
    var client = new ShoppableClient(channel);
    try (var answers = client.annotate(Source.file(Path.of(arguments[1])), options)) {
      answers.forEachRemaining(
          answer -> {
            String label = answer.getObject().getLabel();
            for (ProductMatch match : answer.getObject().getProductsList()) {
              System.out.println(label + " " + match.getDecision() + " " + match.getProduct().getTitle());
            }
          });
    }
    channel.shutdownNow();
  }
}
