"""How whole architectures are explained: by analysis from outside, or by models built to explain themselves."""
