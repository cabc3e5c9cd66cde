"""Define-by-run automatic differentiation as a service, with PyTorch's names."""
