"""Load models, generate with them and measure their memory."""
