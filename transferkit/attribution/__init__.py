"""Which part of an image is evidence for a class. Importing this package does not import torch."""

from enum import StrEnum


class Method(StrEnum):
    """Methods that attribute a class's score to the pixels of an image, computed by captum.

    `gradcam`: the feature maps of one layer, weighted by their mean gradient and summed, where the
    sum is positive (Selvaraju et al., Grad-CAM, ICCV 2017, equation 2).

    `integrated-gradients`: the gradient of the pixels averaged along the path from a plain image of
    the mean colour, times the length of the path, where the sum over the channels is positive
    (Sundararajan, Taly and Yan, Axiomatic attribution for deep networks, ICML 2017).

    `saliency`: the absolute gradient of each pixel, the largest of its channels (Simonyan, Vedaldi
    and Zisserman, Deep inside convolutional networks, 2014).

    `occlusion`: the probability lost while a square of the mean colour covers the place, where any
    is lost (Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV 2014). It
    needs no gradient.

    Guided backpropagation is left out: its maps hardly change when the weights are replaced by
    random ones (Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018).
    """

    GRAD_CAM = "gradcam"
    INTEGRATED_GRADIENTS = "integrated-gradients"
    SALIENCY = "saliency"
    OCCLUSION = "occlusion"
