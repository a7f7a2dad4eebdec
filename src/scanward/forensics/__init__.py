"""The detector: tells genuine mammograms from altered ones, and says where. Uses `mammography` and `tampering`."""
