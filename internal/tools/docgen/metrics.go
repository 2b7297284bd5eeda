package main

// metricsPage lists the instruments of internal/telemetry.
func metricsPage(string) (string, error) {
	return heading("Metrics", "None yet."), nil
}
