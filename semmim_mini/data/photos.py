"""Photos with captions written by people, under one name; the parts are `picture_files`, `flickr8k` and `karpathy`."""

from semmim_mini.data.flickr8k import Flickr8kPairs
from semmim_mini.data.karpathy import KarpathyPairs
from semmim_mini.data.picture_files import BadPictures, Photo, PhotoPairs, UnreadablePicture, read_picture

__all__ = ["BadPictures", "Flickr8kPairs", "KarpathyPairs", "Photo", "PhotoPairs", "UnreadablePicture", "read_picture"]
