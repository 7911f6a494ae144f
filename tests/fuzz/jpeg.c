/* Any bytes as a picture; the corpus is of JPEG. */
#include "picture.h"
