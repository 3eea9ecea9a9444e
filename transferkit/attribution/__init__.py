"""Which part of a picture speaks for a class. Needs no torch to be imported."""

from enum import StrEnum


class Method(StrEnum):
    """How a class's score is led back to the picture, all of them by captum.

    `gradcam`: the maps of one layer, weighted by their mean gradient, where the sum is positive
    (Selvaraju et al., Grad-CAM, ICCV 2017, equation 2). `integrated-gradients`: gradients of the
    pixels along the way from a plain picture of the mean colour, times the way (Sundararajan, Taly
    and Yan, Axiomatic attribution for deep networks, ICML 2017), where the sum over the channels is
    positive. `saliency`: size of the pixels' gradient, the largest of the channels (Simonyan,
    Vedaldi and Zisserman, Deep inside convolutional networks, 2014). `occlusion`: how much
    probability is lost while a square of the mean colour hides the place (Zeiler and Fergus,
    Visualizing and understanding convolutional networks, ECCV 2014), where any is; it needs no
    gradient.

    Guided backpropagation is left out: its maps hardly change when the weights are replaced by
    random ones (Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018).
    """

    GRAD_CAM = "gradcam"
    INTEGRATED_GRADIENTS = "integrated-gradients"
    SALIENCY = "saliency"
    OCCLUSION = "occlusion"
