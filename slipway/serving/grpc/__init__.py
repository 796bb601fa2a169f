"""The Open Inference Protocol over gRPC, as an option: imported only where it is switched on."""
