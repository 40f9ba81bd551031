"""The SDK in web frameworks: thin, and each importing only its own framework."""
