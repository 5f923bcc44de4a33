"""Speed of capture and tracing, side by side with what people use today: `make bench`."""
