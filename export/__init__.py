"""torch -> ONNX -> bundle, verified through the runtime that will run it."""
