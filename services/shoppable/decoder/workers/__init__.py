"""Decoding in processes of their own: one for each video, which may crash or be taken over without harm to others.

The service starts one fork server (`forkserver`), small and of one thread, which has loaded FFmpeg. For each video that
forks a worker (`worker`), which locks itself in (`sandbox`) and decodes. `fleet` and `session` are the service's side.
"""
