"""The composition root: from settings to adapters to features. The only place that knows both."""
