"""The Content-Range protocol of drf-chunked-upload: PUT, POST, GET and HEAD."""
