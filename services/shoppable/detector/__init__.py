"""The object detector: pictures in, boxes out, with the models hosted on Triton."""
