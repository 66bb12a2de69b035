"""Test how each strategy handles each fault: real servers, real requests, real kills."""
