"""The engines that ask a model: generation and prediction, with the base or any adapters."""
