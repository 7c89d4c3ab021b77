"""Ask real models, once: a journal that a killed run resumes from, and a cap on what is spent."""
