"""Where rows come from: files, the hub, packaged sets."""
