"""What each strategy makes of each fault: a real server, real requests, a real kill."""
