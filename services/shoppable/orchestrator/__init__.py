"""The orchestrator: composes decoder, detector and matcher, and follows objects through time."""
