"""Export through the OpenTelemetry SDK, never imported by the kernel."""
