"""The services that the orchestrator asks, one module each."""
