"""Clusters: a profile says where one is, how to get in, where runs, files and data lie; checks say whether it is so."""
