"""Answer the own code of a cascade from recorded traffic, and see what it did as a replay."""
