"""Delivery: from a queue to a back-office, in order per citizen, through kills and outages."""
