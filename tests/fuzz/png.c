/* Any bytes as a picture; the corpus is of PNG. */
#include "picture.h"
