"""What a trained network is worth: metrics, intervals, results and how they are told."""
