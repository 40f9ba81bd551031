"""Signatures, strictly: keys, JWS, HTTP message signatures, Standard Webhooks. Import the module you need."""
