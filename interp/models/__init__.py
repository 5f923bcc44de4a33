"""What is looked at: language models from wherever they are, tokens in, residuals and answers out."""
