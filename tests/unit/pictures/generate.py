#!/usr/bin/env python3
"""Writes the pictures of test_pictures.c and what has to come out of them, and cases.txt, which lists them. Needs Pillow.

cases.txt, one case a line:
  load FILE EXPECTED.ppm TOLERANCE ORIENT         decoding gives these pixels
  bad FILE TEXT                                   refused, and TEXT (spaces as _) is in the reason
  fit stretch|crop W H NEW_W NEW_H EXPECTED.ppm   of the picture that noise() makes
channels.txt, the same for other numbers of channels, with lun_hash() of the pixels in place of a picture:
  load FILE CHANNELS FOUND HASH                   FOUND: the channels that the file has
  fit stretch|crop CHANNELS W H NEW_W NEW_H HASH
PNG files are written here, since Pillow cannot write every depth nor interlace. What is expected comes from Pillow,
except for 16-bit samples, which Pillow cuts off instead of rounding (here round(v / 257)), and a transparent grey below
8 bit.
"""
import io
import os
import struct
import zlib

from PIL import Image, ImageChops, ImageOps

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = []
W, H = 13, 9
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def noise(count, seed=1):
    """The generator of test_pictures.c: bytes from a linear congruential generator."""
    out = bytearray()
    for _ in range(count):
        seed = (seed * 1664525 + 1013904223) & 0xFFFFFFFF
        out.append(seed >> 24)
    return bytes(out)


def write(name, data):
    with open(os.path.join(HERE, name), "wb") as f:
        f.write(data)


def write_ppm(name, image):
    assert image.mode == "RGB"
    write(name, b"P6\n%d %d\n255\n" % image.size + image.tobytes())


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pack_row(samples, depth):
    if depth == 16:
        return b"".join(struct.pack(">H", s) for s in samples)
    bits = "".join(format(s, "0%db" % depth) for s in samples)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))


def filtered(rows, pixel_bytes):
    """Each row by another of the five filters."""
    out, before = bytearray(), bytes(len(rows[0])) if rows else b""
    for y, row in enumerate(rows):
        kind = y % 5
        out.append(kind)
        for i, v in enumerate(row):
            a = row[i - pixel_bytes] if i >= pixel_bytes else 0
            b = before[i]
            c = before[i - pixel_bytes] if i >= pixel_bytes else 0
            p = a + b - c
            paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            out.append((v - (0, a, b, (a + b) // 2, paeth)[kind]) & 255)
        before = row
    return bytes(out)


def png(width, height, depth, colour, samples, interlace=0, extra=b"", idat=None, after=b""):
    """samples[y][x] is a tuple of channel values."""
    if idat is None:
        passes = [(0, 0, 1, 1)]
        if interlace:
            passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        raw = b""
        for x0, y0, dx, dy in passes:
            rows = [pack_row([v for p in row[x0::dx] for v in p], depth) for row in samples[y0::dy] if row[x0::dx]]
            raw += filtered(rows, max(1, depth * CHANNELS[colour] // 8))
        idat = zlib.compress(raw, 9)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", idat) + after + chunk(b"IEND", b""))


def expected(data, samples, depth, colour, transparent=None):
    black = Image.new("RGB", (W, H))
    if depth < 8 and transparent is not None:
        # Pillow compares the transparent grey with scaled samples.
        flat = [255 * p[0] // ((1 << depth) - 1) if p != transparent else 0 for row in samples for p in row]
        return Image.frombytes("L", (W, H), bytes(flat)).convert("RGB")
    if depth < 16:
        image = Image.open(io.BytesIO(data)).convert("RGBA")
        return Image.composite(image.convert("RGB"), black, image.getchannel("A"))
    pixels = []
    for row in samples:
        for p in row:
            a = 0 if p == transparent else 65535
            if colour in (4, 6):
                p, a = p[:-1], p[-1]
            p, a = [(v + 128) // 257 for v in p], (a + 128) // 257
            pixels += [(v * a * 2 + 255) // 510 for v in (p * 3 if len(p) == 1 else p)]
    return Image.frombytes("RGB", (W, H), bytes(pixels))


def animated(samples):
    """APNG: the first picture that any reader shows is that of IDAT, a frame of the animation or none of it."""
    control = struct.pack(">IIIIHHBB", W, H, 0, 0, 1, 10, 0, 0)
    other = [[(255 - p[0],) for p in row] for row in samples]
    rows = zlib.compress(filtered([pack_row([v for p in row for v in p], 8) for row in other], 1), 9)

    def frame(number):
        return chunk(b"fcTL", struct.pack(">I", number) + control)

    def more(number, data):
        return chunk(b"fdAT", struct.pack(">I", number) + data)

    cut, lost = more(2, rows[: len(rows) // 2]), more(2, rows)
    for name, data in (
            ("apng", png(W, H, 8, 0, samples, extra=chunk(b"acTL", struct.pack(">II", 2, 0)) + frame(0),
                         after=frame(1) + more(2, rows))),
            ("apng-apart", png(W, H, 8, 0, samples, extra=chunk(b"acTL", struct.pack(">II", 1, 0)),
                               after=frame(0) + more(1, rows))),
            ("apng-cut", png(W, H, 8, 0, samples, extra=chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)) + frame(0),
                             after=frame(1) + cut + lost[:-1] + b"?"))):
        write(name + ".png", data)
        CASES.append("load %s.png plain.ppm 0 0" % name)
        if name != "apng-cut":  # Pillow looks at the frames that follow
            image = Image.open(io.BytesIO(data))
            image.seek(0)
            assert image.convert("L").tobytes() == bytes(p[0] for row in samples for p in row)


def pngs():
    letters = {0: "grey", 2: "rgb", 3: "palette", 4: "grey-alpha", 6: "rgba"}
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    for colour in letters:
        for depth in depths[colour]:
            for trns in (False, True) if colour in (0, 2, 3) else (False,):
                channels = CHANNELS[colour]
                random = noise(2 * W * H * channels, 7 * colour + depth)
                values = [((random[2 * i] << 8 | random[2 * i + 1]) >> (16 - depth)) for i in range(W * H * channels)]
                samples = [[tuple(values[(y * W + x) * channels:][:channels]) for x in range(W)] for y in range(H)]
                extra, transparent = b"", None
                if colour == 3:
                    extra += chunk(b"PLTE", noise(3 << depth, 99))
                if trns:
                    transparent = samples[3][5] if colour != 3 else None
                    extra += chunk(b"tRNS", noise((1 << depth) // 2 + 1, 5) if colour == 3 else
                                   b"".join(struct.pack(">H", v) for v in transparent))
                name = "%s%d%s" % (letters[colour], depth, "-trns" if trns else "")
                plain = png(W, H, depth, colour, samples, 0, extra)
                write(name + ".png", plain)
                write_ppm(name + ".ppm", expected(plain, samples, depth, colour, transparent))
                CASES.append("load %s.png %s.ppm 0 0" % (name, name))
                if not trns or depth in (8, 16):
                    write(name + "-i.png", png(W, H, depth, colour, samples, 1, extra))
                    CASES.append("load %s-i.png %s.ppm 0 0" % (name, name))

    # Damage that does not matter, around one small picture.
    random = noise(W * H, 3)
    samples = [[(random[y * W + x],) for x in range(W)] for y in range(H)]
    write_ppm("plain.ppm", expected(png(W, H, 8, 0, samples), samples, 8, 0))
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(3000000), 9))
    wrong = chunk(b"tEXt", b"a\0b")[:-1] + b"?"
    for name, data in (
            ("many-chunks", png(W, H, 8, 0, samples, extra=chunk(b"prVt", b"") * 500 + bomb)),
            ("ancillary-crc", png(W, H, 8, 0, samples, extra=wrong)),
            ("gamma", png(W, H, 8, 0, samples, extra=chunk(b"gAMA", struct.pack(">I", 100000)))),
            ("trailing", png(W, H, 8, 0, samples) + b"PK\3\4 and more")):
        write(name + ".png", data)
        CASES.append("load %s.png plain.ppm 0 0" % name)
    animated(samples)
    one = [[(200,)]]
    write("one.png", png(1, 1, 8, 0, one))
    write_ppm("one.ppm", Image.new("RGB", (1, 1), (200, 200, 200)))
    CASES.append("load one.png one.ppm 0 0")

    # Damage that does.
    good = png(W, H, 8, 0, samples)
    at = good.index(b"IDAT")
    for name, data, text in (
            ("huge", png(100000, 100000, 8, 2, None, idat=zlib.compress(bytes(1000))), "exceeds user limit"),
            ("largest", png(2**31 - 1, 2**31 - 1, 8, 2, None, idat=zlib.compress(bytes(1000))), "exceeds user limit"),
            ("area", png(16384, 4097, 1, 0, None, idat=zlib.compress(bytes(1000))), "16384 x 4097 pixels"),
            ("lie", png(8000, 8000, 8, 2, None, idat=zlib.compress(bytes(1000))), "8000 x 8000 pixels cannot lie in"),
            ("short-data", png(W, H, 8, 2, None, idat=zlib.compress(bytes(30))), "Not enough image data"),
            ("no-width", png(0, H, 8, 0, None, idat=zlib.compress(b"")), "IHDR"),
            ("no-palette", png(W, H, 8, 3, samples), "PLTE"),
            ("critical", png(W, H, 8, 0, samples, extra=chunk(b"PRVT", b"x")), "PRVT"),
            ("crc", good[:at + 6] + bytes([good[at + 6] ^ 1]) + good[at + 7:], ""),
            ("header-crc", good[:20] + b"\1" + good[21:], ""),
            ("html", b"<!DOCTYPE html><title>no picture</title>", "neither a PNG nor a JPEG"),
            ("gif", b"GIF89a\1\0\1\0\x80\0\0", "neither a PNG nor a JPEG")):
        write("bad-%s.png" % name, data)
        CASES.append("bad bad-%s.png %s" % (name, text.replace(" ", "_")))


def scene(width, height):
    """Smooth colours with an edge, so that the codec has something of everything and every corner differs."""
    pixels = bytearray()
    for y in range(height):
        for x in range(width):
            pixels += bytes((x * 255 // width, y * 255 // height, 220 if (x - width / 3) ** 2 + y * y < 150 else 40))
    return Image.frombytes("RGB", (width, height), bytes(pixels))


def jpegs():
    image = scene(37, 29)

    def add(name, data, tolerance=1, picture=None):
        write(name + ".jpg", data)
        if picture is None:
            picture = Image.open(io.BytesIO(data)).convert("RGB")
        write_ppm(name + ".ppm", picture)
        CASES.append("load %s.jpg %s.ppm %d 0" % (name, name, tolerance))

    def encode(picture, **options):
        out = io.BytesIO()
        picture.save(out, "JPEG", **options)
        return out.getvalue()

    add("jpeg-grey", encode(image.convert("L"), quality=80))
    add("jpeg-444", encode(image, quality=80, subsampling=0))
    add("jpeg-422", encode(image, quality=80, subsampling=1))
    add("jpeg-420", encode(image, quality=80, subsampling=2))
    add("jpeg-progressive", encode(image, quality=70, progressive=True))
    add("jpeg-rgb", encode(image, quality=80, keep_rgb=True))
    add("jpeg-one", encode(Image.new("RGB", (1, 1), (10, 200, 90)), quality=90))
    ink = Image.merge("CMYK", image.split() + (image.convert("L"),))
    cmyk = encode(ink, quality=80)
    add("jpeg-cmyk", cmyk)
    at = cmyk.index(b"\xff\xee")
    end = at + 2 + int.from_bytes(cmyk[at + 2:at + 4], "big")
    plain = cmyk[:at] + cmyk[end:]  # without the Adobe marker the samples are ink; Pillow takes them as inverted always
    add("jpeg-cmyk-plain", plain, 1, ImageChops.invert(Image.open(io.BytesIO(plain))).convert("RGB"))
    add("jpeg-ycck", cmyk[:end - 1] + b"\2" + cmyk[end:])
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x010F] = "a maker"
        exif[0x0112] = orientation
        data = encode(scene(20, 12), quality=85, exif=exif)
        name = "orient-%d" % orientation
        write(name + ".jpg", data)
        write_ppm(name + ".ppm", ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        CASES.append("load %s.jpg %s.ppm 1 1" % (name, name))
        CASES.append("load %s.jpg orient-1.ppm 1 0" % name)
    write("bad-magic.jpg", b"\0\xd8" + encode(image)[2:])
    CASES.append("bad bad-magic.jpg neither_a_PNG_nor_a_JPEG")


def fits():
    def source(width, height):
        return Image.frombytes("RGB", (width, height), noise(3 * width * height))

    def add(fit, image, size, result):
        name = "%s-%dx%d-%dx%d.ppm" % (fit, *image.size, *size)
        write_ppm(name, result)
        CASES.append("fit %s %d %d %d %d %s" % (fit, *image.size, *size, name))

    for width, height, *size in ((37, 29, 17, 13), (37, 29, 64, 51), (37, 29, 37, 11), (37, 29, 10, 29), (37, 29, 37, 29),
                                 (640, 480, 64, 64), (320, 320, 32, 32), (1, 10000, 24, 24), (10000, 1, 24, 24),
                                 (1, 1, 5, 3), (5, 7, 1, 1), (2, 2, 3, 3), (101, 97, 100, 98)):
        image = source(width, height)
        add("stretch", image, size, image.resize(size, Image.Resampling.BILINEAR))
    for width, height, side in ((37, 29, 16), (29, 37, 16), (29, 37, 50), (33, 33, 16), (1, 10000, 16), (10000, 1, 16),
                                (16, 19, 16), (17, 16, 16), (21, 16, 16), (23, 16, 16), (320, 213, 32)):
        image = source(width, height)
        # torchvision: Resize(side), then CenterCrop(side)
        if width <= height:
            whole = (side, side * height // width)
        else:
            whole = (side * width // height, side)
        left, top = (round((v - side) / 2) for v in whole)
        add("crop", image, (side, side),
            image.resize(whole, Image.Resampling.BILINEAR).crop((left, top, left + side, top + side)))


def fnv(data):
    """lun_hash()"""
    value = 0xcbf29ce484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001b3 & 0xFFFFFFFFFFFFFFFF
    return "%016x" % value


def hidden_is_black(image):
    """Colour under alpha 0 is black, whether the size changes or not."""
    if image.mode != "RGBA":
        return image
    return Image.composite(image, Image.new("RGBA", image.size), image.getchannel("A").point(lambda a: 255 if a else 0))


def channels():
    lines = []
    for name, found in (("grey8", 1), ("grey8-i", 1), ("grey4", 1), ("grey8-trns", 4), ("rgb8", 3), ("rgb8-trns", 4),
                        ("palette8", 3), ("palette8-trns", 4), ("grey-alpha8", 4), ("rgba8", 4), ("rgba8-i", 4)):
        image = Image.open(os.path.join(HERE, name + ".png")).convert("RGBA")
        flat = Image.composite(image.convert("RGB"), Image.new("RGB", image.size), image.getchannel("A"))
        for count, want in ((1, flat.convert("L")), (3, flat), (4, image)):
            lines.append("load %s.png %d %d %s" % (name, count, found, fnv(want.tobytes())))
    modes = {1: "L", 4: "RGBA"}
    for count, mode in modes.items():
        for width, height, *size in ((37, 29, 17, 13), (37, 29, 64, 51), (37, 29, 37, 11), (37, 29, 10, 29),
                                     (37, 29, 37, 29), (160, 120, 32, 32), (1, 1000, 24, 24), (1, 1, 5, 3)):
            image = Image.frombytes(mode, (width, height), noise(count * width * height))
            want = hidden_is_black(image.resize(size, Image.Resampling.BILINEAR))
            lines.append("fit stretch %d %d %d %d %d %s" % (count, width, height, *size, fnv(want.tobytes())))
        for width, height, side in ((37, 29, 16), (29, 37, 50), (16, 19, 16), (21, 16, 16)):
            image = Image.frombytes(mode, (width, height), noise(count * width * height))
            whole = (side, side * height // width) if width <= height else (side * width // height, side)
            left, top = (round((v - side) / 2) for v in whole)
            want = hidden_is_black(image.resize(whole, Image.Resampling.BILINEAR))
            want = want.crop((left, top, left + side, top + side))
            lines.append("fit crop %d %d %d %d %d %s" % (count, width, height, side, side, fnv(want.tobytes())))
    write("channels.txt", ("\n".join(lines) + "\n").encode())


pngs()
jpegs()
fits()
channels()
write("cases.txt", ("\n".join(CASES) + "\n").encode())
