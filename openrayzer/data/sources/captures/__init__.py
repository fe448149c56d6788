"""Datasets in the forms of other data sets, and of apps that record poses."""
