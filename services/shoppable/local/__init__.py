"""Everything on one machine: the inference server and the services as child processes."""
