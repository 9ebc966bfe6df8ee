"""Line-rendered widgets, one a file."""
