"""Makes the three ONNX models of the suite from published weights. Run by hand, never by a service.

`python -m convert_models all --out DIR`, from the folder `tools`; see README.md.
"""
