"""Export students as safetensors and GGUF."""
