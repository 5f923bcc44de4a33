"""A steered model behind the requests of OpenAI's API: many texts at a time, each under a steering of its own."""
