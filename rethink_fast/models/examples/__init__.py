"""Networks in the form that --model takes, package.module:name: start from these for your own."""
