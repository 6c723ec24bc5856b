"""A model server without a GPU: the OpenAI API over a pure model of an inference engine."""
