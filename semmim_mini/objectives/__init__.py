"""Every loss and every mask as a pure function of tensors: centres, temperatures and random numbers are arguments."""
