"""The Gradio app: one file per tab, thin handlers. Nothing here decides what is healthy."""
