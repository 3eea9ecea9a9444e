"""A backbone of 0.5 million parameters that needs no download, for the command line."""

TINY = ("-b", "test_resnet", "--weights", "none", "--image-size", "32")
