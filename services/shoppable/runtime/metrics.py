"""All metrics of the suite; deploy/observability/README.md explains them, in the same order.

Labels have few values: never an id, a path or a text.
"""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

CALLS = Counter("shoppable_calls", "Calls that ended.", ("service", "method", "code"))
CALLS_IN_WORK = Gauge("shoppable_calls_in_work", "Calls in work.", ("service", "method"))
CALLS_WAITING = Gauge("shoppable_calls_waiting", "Calls that wait for their turn.")
CALLS_REFUSED = Counter("shoppable_calls_refused", "Calls refused since a limit was reached.", ("reason",))
SERVING = Gauge("shoppable_serving", "1 while a service can work, 0 while it cannot.", ("service",))
CALL_SECONDS = Histogram("shoppable_call_seconds", "Length of calls.", ("service", "method"), buckets=_SECONDS)

FRAMES_DECODED = Counter("shoppable_decoder_frames_decoded", "Frames that the codec gave.")
FRAMES_SENT = Counter("shoppable_decoder_frames_sent", "Sampled frames handed out.")
PACKETS_DAMAGED = Counter("shoppable_decoder_packets_damaged", "Packets that could not be decoded.")

PICTURES_SEARCHED = Counter("shoppable_detector_pictures", "Pictures searched for objects.", ("outcome",))
PICTURE_PREPARE_SECONDS = Histogram(
    "shoppable_detector_prepare_seconds",
    "Time to decode a picture and fit it into models' inputs.",
    buckets=_SECONDS,
)

INFERENCES = Counter("shoppable_inferences", "Pictures sent to Triton.", ("model", "outcome"))
INFERENCE_SECONDS = Histogram("shoppable_inference_seconds", "Time of an inference.", ("model",), buckets=_SECONDS)

PRODUCTS_UPSERTED = Counter("shoppable_catalog_products_upserted", "Answered upserts.", ("outcome",))
QUERIES_MATCHED = Counter("shoppable_matcher_queries", "Things looked up.", ("decision",))
INDEX_SECONDS = Histogram("shoppable_index_seconds", "Time of an index operation.", ("operation",), buckets=_SECONDS)

OBJECTS_FOUND = Counter("shoppable_orchestrator_objects", "Objects returned.", ("decision",))
STAGE_FAILURES = Counter("shoppable_orchestrator_failures", "Frames or objects that a stage failed.", ("stage",))
OBJECTS_WITHHELD = Counter("shoppable_orchestrator_withheld", "Objects that are offered nothing.", ("reason",))
FRAMES_DROPPED = Counter("shoppable_orchestrator_frames_dropped", "Frames of live streams that came too fast.")
