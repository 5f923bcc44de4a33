"""EXPRESS (Shu et al. 2025, arXiv 2509.09593): does a model name what people say they feel?"""
