"""Test LLM cascades."""
