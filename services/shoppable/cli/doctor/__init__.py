"""`shoppable doctor`: examines an installation from outside."""
