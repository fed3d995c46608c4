"""A recorded or running pool under other policies: replay, eta, what-if."""
