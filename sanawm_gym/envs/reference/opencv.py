"""OpenCV for the modules that draw, or the advice to install it."""

try:
    import cv2
except ImportError as error:
    raise ModuleNotFoundError(
        "the reference world is drawn with OpenCV: pip install 'sanawm-gym[reference]'", name="cv2"
    ) from error

__all__ = ["cv2"]
