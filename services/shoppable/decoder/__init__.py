"""The frame decoder: a video in, its sampled frames out, upright and with true presentation times."""
