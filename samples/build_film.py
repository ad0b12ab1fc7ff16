"""Build the sample film, product photos and ground truth of the visual product search demo.

Everything is original: geometry, materials and light are made here, from numbers, with Blender's
Python module (``pip install "bpy==4.5.*" av numpy pillow``).  Nothing is downloaded and every
random choice has a fixed seed.

    python build_film.py --out DIR                    # everything
    python build_film.py --out DIR --only film --frames 0:40   # some frames, to be resumed later
    python build_film.py --out DIR --only truth catalog encode

Under DIR it writes:
    frames/0000.png ...       the rendered frames (kept, so that a stopped run can go on)
    film.mp4                  H.264, once all frames are there
    ground_truth.json         for every frame, the box and visibility of every product in view
    catalog.jsonl, catalog/   the products and their studio photos

Conventions: metres; z is up; a product is built around its own origin, standing on z = 0 and
facing -y.  A "set" is one scene of the film with its own products and its own camera move.
"""
import argparse
import json
import math
import random
from pathlib import Path
from typing import Callable, NamedTuple

import bpy  # first: bmesh and mathutils come with it
import bmesh
import numpy as np
from mathutils import Matrix, Vector
from mathutils.bvhtree import BVHTree

# ---------------------------------------------------------------------------------- constants
WIDTH, HEIGHT, FPS = 640, 360, 12
SENSOR = 36.0                      # mm, horizontal
FILM_SAMPLES, PHOTO_SAMPLES = 10, 12
PHOTO_SIZE = 384
SEED = 7
X264_CRF = 15
VISIBILITY_RAYS = 28               # rays per side of the grid laid over a product's box
MIN_VISIBILITY = 0.02              # less of a product than this in view counts as hidden
SHOP = "https://shop.example"


# ------------------------------------------------------------------------------------ colours
def rgba(color):
    """'#rrggbb' in sRGB -> linear RGBA, as the shader nodes want it."""
    c = np.array([int(color[i:i + 2], 16) for i in (1, 3, 5)]) / 255
    c = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return (*c.tolist(), 1.0)


# ---------------------------------------------------------------------------------- materials
def _new_material(name):
    mat = bpy.data.materials.new(name)
    mat.use_nodes = True
    return mat, mat.node_tree.nodes, mat.node_tree.links, mat.node_tree.nodes["Principled BSDF"]


def plain(color, rough=0.5, metal=0.0, coat=0.0, sheen=0.0, bump=None, glow=0.0, glass=0.0):
    """One colour.  bump = (scale, strength) adds fine noise to the normal, for cloth and plaster."""
    mat, nodes, links, bsdf = _new_material("plain")
    for socket, value in (("Base Color", rgba(color)), ("Roughness", rough), ("Metallic", metal),
                          ("Coat Weight", coat), ("Coat Roughness", 0.05), ("Sheen Weight", sheen),
                          ("Emission Color", rgba(color)), ("Emission Strength", glow),
                          ("Transmission Weight", glass)):
        bsdf.inputs[socket].default_value = value
    if bump:
        add_bump(nodes, links, bsdf, *bump)
    return mat


def add_bump(nodes, links, bsdf, scale, strength):
    coord, noise, node = (nodes.new("ShaderNode" + n) for n in ("TexCoord", "TexNoise", "Bump"))
    noise.inputs["Scale"].default_value = scale
    noise.inputs["Detail"].default_value = 3
    node.inputs["Strength"].default_value = strength
    node.inputs["Distance"].default_value = 0.01
    links.new(coord.outputs["Object"], noise.inputs["Vector"])
    links.new(noise.outputs["Fac"], node.inputs["Height"])
    links.new(node.outputs["Normal"], bsdf.inputs["Normal"])


def set_ramp(node, stops, interpolation="LINEAR"):
    """stops: [(position, '#rrggbb'), ...] in rising order."""
    ramp = node.color_ramp
    ramp.interpolation = interpolation
    while len(ramp.elements) < len(stops):
        ramp.elements.new(0.5)
    for element, (position, color) in zip(ramp.elements, stops):
        element.position, element.color = position, rgba(color)


def wood(light, dark, grain=(1, 12, 12), rough=0.4, scale=3.0):
    """Wood: noise stretched along the axis whose grain factor is smallest."""
    mat, nodes, links, bsdf = _new_material("wood")
    coord, mapping, noise, ramp = (nodes.new("ShaderNode" + n)
                                   for n in ("TexCoord", "Mapping", "TexNoise", "ValToRGB"))
    mapping.inputs["Scale"].default_value = grain
    noise.inputs["Scale"].default_value = scale
    noise.inputs["Detail"].default_value = 6
    noise.inputs["Distortion"].default_value = 0.6
    set_ramp(ramp, [(0.35, dark), (0.68, light)])
    links.new(coord.outputs["Object"], mapping.inputs["Vector"])
    links.new(mapping.outputs["Vector"], noise.inputs["Vector"])
    links.new(noise.outputs["Fac"], ramp.inputs["Fac"])
    links.new(ramp.outputs["Color"], bsdf.inputs["Base Color"])
    bsdf.inputs["Roughness"].default_value = rough
    return mat


def banded(height, stops, rough=0.25, coat=0.4):
    """Bands of colour up the z axis; stops are fractions of the height."""
    mat, nodes, links, bsdf = _new_material("banded")
    coord, split, scale, ramp = (nodes.new("ShaderNode" + n)
                                 for n in ("TexCoord", "SeparateXYZ", "Math", "ValToRGB"))
    scale.operation = "DIVIDE"
    scale.inputs[1].default_value = height
    set_ramp(ramp, stops, "CONSTANT")
    links.new(coord.outputs["Object"], split.inputs["Vector"])
    links.new(split.outputs["Z"], scale.inputs[0])
    links.new(scale.outputs["Value"], ramp.inputs["Fac"])
    links.new(ramp.outputs["Color"], bsdf.inputs["Base Color"])
    bsdf.inputs["Roughness"].default_value = rough
    bsdf.inputs["Coat Weight"].default_value = coat
    return mat


def speckled(base, dots, scale=260, share=0.36, rough=0.3, coat=0.3):
    """Stoneware: small dots of a second colour."""
    mat, nodes, links, bsdf = _new_material("speckled")
    coord, noise, ramp = (nodes.new("ShaderNode" + n) for n in ("TexCoord", "TexNoise", "ValToRGB"))
    noise.inputs["Scale"].default_value = scale
    noise.inputs["Detail"].default_value = 1
    set_ramp(ramp, [(share, dots), (share + 0.03, base)])
    links.new(coord.outputs["Object"], noise.inputs["Vector"])
    links.new(noise.outputs["Fac"], ramp.inputs["Fac"])
    links.new(ramp.outputs["Color"], bsdf.inputs["Base Color"])
    bsdf.inputs["Roughness"].default_value = rough
    bsdf.inputs["Coat Weight"].default_value = coat
    return mat


def picture(palette, width, height, strength=1.0, wobble=0.35, scale=3.0, offset=0.0, soft=False):
    """A lit screen: layered hills, from a ramp over height plus noise.  The palette goes upwards; soft blends it."""
    mat, nodes, links, bsdf = _new_material("picture")
    coord, split, join, noise, waves, level, add, ramp = (
        nodes.new("ShaderNode" + n) for n in ("TexCoord", "SeparateXYZ", "CombineXYZ", "TexNoise",
                                              "Math", "Math", "Math", "ValToRGB"))
    waves.operation, level.operation, add.operation = "MULTIPLY_ADD", "MULTIPLY_ADD", "ADD"
    noise.inputs["Scale"].default_value = scale / width
    noise.inputs["Detail"].default_value = 2
    waves.inputs[1].default_value, waves.inputs[2].default_value = wobble, -wobble / 2
    level.inputs[1].default_value, level.inputs[2].default_value = 1 / height, -offset / height
    n = len(palette)
    set_ramp(ramp, [(i / n, c) for i, c in enumerate(palette)], "LINEAR" if soft else "CONSTANT")
    links.new(coord.outputs["Object"], split.inputs["Vector"])
    links.new(split.outputs["X"], join.inputs["X"])
    links.new(join.outputs["Vector"], noise.inputs["Vector"])
    links.new(noise.outputs["Fac"], waves.inputs[0])
    links.new(split.outputs["Z"], level.inputs[0])
    links.new(waves.outputs["Value"], add.inputs[0])
    links.new(level.outputs["Value"], add.inputs[1])
    links.new(add.outputs["Value"], ramp.inputs["Fac"])
    links.new(ramp.outputs["Color"], bsdf.inputs["Emission Color"])
    bsdf.inputs["Base Color"].default_value = (0.01, 0.01, 0.01, 1)
    bsdf.inputs["Roughness"].default_value = 0.15
    bsdf.inputs["Emission Strength"].default_value = strength
    return mat


# ----------------------------------------------------------------------------------- geometry
def grid_faces(rows, cols, wrap):
    """Quads of a rows x cols sheet of vertices; wrap joins the last column to the first."""
    last = cols if wrap else cols - 1
    return [(r * cols + c, r * cols + (c + 1) % cols, (r + 1) * cols + (c + 1) % cols, (r + 1) * cols + c)
            for r in range(rows - 1) for c in range(last)]


def smooth_path(points, steps=6):
    """Catmull-Rom curve through the points."""
    p = np.array(points, float)
    p = np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    out = [0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t ** 2 + (3 * b - a - 3 * c + d) * t ** 3)
           for a, b, c, d in zip(p, p[1:], p[2:], p[3:])]
    return np.vstack(out + [p[-2][None]])


class Model:
    """A thing in the scene: a root that can be placed, and parts built in the root's space."""

    def __init__(self, name, product_id=None):
        self.root = bpy.data.objects.new(name, None)
        bpy.context.scene.collection.objects.link(self.root)
        self.product_id, self.parts = product_id, []

    def add(self, vertices, faces, mat, sharp=40, matrix=None):
        mesh = bpy.data.meshes.new(self.root.name)
        mesh.from_pydata([tuple(map(float, v)) for v in vertices], [], faces)
        bm = bmesh.new()
        bm.from_mesh(mesh)
        return self._finish(bm, mesh, mat, sharp, matrix)

    def _finish(self, bm, mesh, mat, sharp, matrix):
        bmesh.ops.remove_doubles(bm, verts=bm.verts, dist=1e-6)
        bmesh.ops.recalc_face_normals(bm, faces=bm.faces)
        if matrix is not None:
            bm.transform(matrix)
        bm.to_mesh(mesh)
        bm.free()
        mesh.shade_smooth()
        mesh.set_sharp_from_angle(angle=math.radians(sharp))
        mesh.materials.append(mat)
        obj = bpy.data.objects.new(self.root.name, mesh)
        if self.product_id:
            obj["product_id"] = self.product_id
        obj.parent = self.root
        bpy.context.scene.collection.objects.link(obj)
        self.parts.append(obj)
        return obj

    def lathe(self, profile, mat, smooth=True, segments=72, matrix=None, sharp=50):
        """Turn (radius, z) points around z."""
        p = smooth_path(profile, 5) if smooth else np.array(profile, float)
        p[:, 0] = p[:, 0].clip(0)
        a = np.linspace(0, 2 * math.pi, segments, endpoint=False)
        v = np.stack([np.outer(p[:, 0], np.cos(a)), np.outer(p[:, 0], np.sin(a)),
                      np.repeat(p[:, 1:], segments, 1)], -1).reshape(-1, 3)
        return self.add(v, grid_faces(len(p), segments, True), mat, sharp, matrix)

    def box(self, size, center, mat, bevel=0.005, segments=3, matrix=None):
        """A box with rounded edges."""
        mesh, bm = bpy.data.meshes.new(self.root.name), bmesh.new()
        bmesh.ops.create_cube(bm, size=1)
        bmesh.ops.scale(bm, vec=size, verts=bm.verts)
        if bevel:
            bmesh.ops.bevel(bm, geom=list(bm.edges), offset=bevel, segments=segments, profile=0.5,
                            affect="EDGES", clamp_overlap=True)
        bmesh.ops.translate(bm, vec=center, verts=bm.verts)
        return self._finish(bm, mesh, mat, 35, matrix)

    def cushion(self, size, center, mat, square=0.35, flat=None, matrix=None):
        """A superellipsoid: square = 1 is an ellipsoid, towards 0 a box."""
        flat = square if flat is None else flat
        power = lambda x, e: np.sign(x) * np.abs(x) ** e
        u, v = np.linspace(0, 2 * math.pi, 64, endpoint=False), np.linspace(-math.pi / 2, math.pi / 2, 33)
        v, u = np.meshgrid(v, u, indexing="ij")
        p = np.stack([power(np.cos(v), flat) * power(np.cos(u), square),
                      power(np.cos(v), flat) * power(np.sin(u), square), power(np.sin(v), flat)], -1)
        p = p.reshape(-1, 3) * np.array(size) / 2 + np.array(center)
        return self.add(p, grid_faces(33, 64, True), mat, 60, matrix)

    def ball(self, size, center, mat, matrix=None):
        size = (size,) * 3 if np.isscalar(size) else size
        return self.cushion(size, center, mat, 1, 1, matrix)

    def tube(self, points, radius, mat, sides=14, smooth=True, matrix=None):
        """Sweep a circle along a path; radius is one number or (first, last)."""
        p = smooth_path(points) if smooth and len(points) > 2 else np.array(points, float)
        r = np.linspace(*(radius if isinstance(radius, tuple) else (radius, radius)), len(p))
        t = np.gradient(p, axis=0)
        t /= np.linalg.norm(t, axis=1, keepdims=True)
        n = np.cross(t[0], [0.31, 0.17, 0.93] if abs(t[0][2]) < 0.9 else [1, 0.2, 0])
        a, rings = np.linspace(0, 2 * math.pi, sides, endpoint=False)[:, None], []
        for point, tangent, radius_here in zip(p, t, r):
            n = n - tangent * np.dot(n, tangent)
            n /= np.linalg.norm(n)
            rings.append(point + radius_here * (np.cos(a) * n + np.sin(a) * np.cross(tangent, n)))
        rings = [np.repeat(p[:1], sides, 0)] + rings + [np.repeat(p[-1:], sides, 0)]
        return self.add(np.vstack(rings), grid_faces(len(rings), sides, True), mat, 50, matrix)

    def leaf(self, base, azimuth, rise, length, width, droop, mat, tip=1.0):
        """A bent, slightly folded blade.  rise is its first angle above the ground, in radians."""
        rows, spine, angle, at = 10, [], rise, np.zeros(2)
        for i in range(rows):
            spine.append(at.copy())
            at += np.array([math.cos(angle), math.sin(angle)]) * length / (rows - 1)
            angle -= droop / (rows - 1)
        s = np.linspace(0, 1, rows)
        half = width / 2 * (np.sin(math.pi * s ** (0.8 * tip)) ** 0.8 * 0.97 + 0.03)
        v = []
        for (out, up), w in zip(spine, half):
            for side, fold in ((-1, 0.25), (-0.5, 0.06), (0, 0), (0.5, 0.06), (1, 0.25)):
                v.append((out, side * w, up + fold * w))
        turn = Matrix.Translation(base) @ Matrix.Rotation(azimuth, 4, "Z")
        return self.add(v, grid_faces(rows, 5, False), mat, 80, turn)

    def place(self, x=0, y=0, z=0, turn=0, scale=1.0):
        self.root.location, self.root.scale = (x, y, z), (scale,) * 3
        self.root.rotation_euler = (0, 0, math.radians(turn))
        return self


# ----------------------------------------------------------------------------------- products
def ceramic(color):
    return plain(color, rough=0.22, coat=0.6)


def build_mug(m, body, inside="#f4efe6", radius=0.042, height=0.098, belly=0.0):
    r, h, b = radius, height, radius * (1 + belly)
    m.lathe([(0, 0), (r * .78, 0), (r * .95, .003), (r, .012), (b, h * .45), (r, h - .004), (r - .001, h - .001)],
            body)
    m.lathe([(r - .001, h - .001), (r - .003, h), (r - .005, h - .003), (b - .006, h * .45), (r * .85, .012),
             (0, .01)], ceramic(inside))
    m.lathe([(0, h * .8), (r - .0045, h * .8)], plain("#2c1608", rough=0.1), smooth=False)
    root = r - .004 + belly * .03  # where the handle meets the wall, without coming through it
    m.tube([(root, 0, h * .82), (r + .018, 0, h * .85), (r + .033, 0, h * .6), (r + .026, 0, h * .32),
            (root, 0, h * .2)], .0062, body)


def build_bottle(m, glass, label, foil, shape="bordeaux", height=0.3, label_mark="#a4343a"):
    h, r = height, 0.039
    shoulder = {"bordeaux": [(r, h * .62), (r * .96, h * .67), (r * .6, h * .745), (r * .4, h * .8)],
                "burgundy": [(r, h * .45), (r * .93, h * .54), (r * .7, h * .66), (r * .45, h * .78)],
                "flask": [(r, h * .74), (r * .97, h * .79), (r * .8, h * .83), (r * .62, h * .85)]}[shape]
    neck = r * (.37 if shape != "flask" else .6)
    m.lathe([(0, 0), (r * .9, 0), (r, .005), (r, h * .2)] + shoulder + [(neck, h * .86), (neck, h * .97),
            (neck * .9, h), (0, h)], glass)
    if label:
        z0, z1 = (h * .16, h * .5) if shape != "burgundy" else (h * .12, h * .4)
        m.lathe([(r + .0006, z0), (r + .0006, z1)], label, smooth=False)
        m.lathe([(r + .0009, z0 + .02), (r + .0009, z0 + .034)], plain(label_mark, rough=.6), smooth=False)
        m.lathe([(r + .0009, z1 - .012), (r + .0009, z1 - .008)], plain(label_mark, rough=.6), smooth=False)
    top = h * (.84 if shape != "flask" else .87)
    m.lathe([(neck + .0008, top), (neck + .001, h * .96), (neck + .0022, h * .965), (neck + .0022, h * .985),
             (neck, h + .001), (0, h + .001)], foil, smooth=False)


def build_pot(m, body, radius, height, foot=0.75):
    r, h = radius, height
    m.lathe([(0, 0), (r * foot, 0), (r * (foot + .04), .004), (r * (foot + 1) / 2 + .004, h * .5), (r, h * .97),
             (r - .002, h), (r - .01, h), (r - .013, h * .9)], body)
    m.lathe([(0, h * .92), (r - .008, h * .9)], plain("#3a2618", rough=.95, bump=(90, .8)), smooth=False)


def build_plant(m, body, kind="broad", radius=0.085, height=0.13, tall=1.0, leaves=("#2f6b35", "#4c8f45"), seed=1):
    rnd = random.Random(seed)
    build_pot(m, body, radius, height)
    greens = [plain(c, rough=.45, sheen=.1) for c in leaves]
    top = height * .9
    if kind == "snake":
        for i in range(13):
            a = i * 2.4
            m.leaf((math.cos(a) * radius * .4, math.sin(a) * radius * .4, top), a, rnd.uniform(1.25, 1.5),
                   rnd.uniform(.2, .36) * tall, .045, rnd.uniform(-.1, .2), rnd.choice(greens), tip=.75)
        return
    count = 34 if kind == "broad" else 46
    for i in range(count):
        a, level = i * 2.39996, i / count
        length = rnd.uniform(.1, .15) * tall * (1.15 - .4 * level)
        width = length * (.62 if kind == "broad" else .26)
        base_z = top + level * .2 * tall
        start = (math.cos(a) * .012, math.sin(a) * .012, base_z)
        rise = .25 + 1.0 * level + rnd.uniform(-.15, .15)
        reach = .05 * tall
        end = (start[0] + math.cos(a) * reach * math.cos(rise), start[1] + math.sin(a) * reach * math.cos(rise),
               base_z + reach * math.sin(rise))
        m.tube([start, end], (.003, .0018), greens[0], sides=6)
        m.leaf(end, a, rise, length, width, rnd.uniform(.7, 1.3), rnd.choice(greens))
    m.tube([(0, 0, top - .01), (0, 0, top + .2 * tall)], (.008, .004), greens[0], sides=8)


VASES = {"bottle": [(.0, 0), (.05, 0), (.062, .01), (.085, .09), (.078, .16), (.035, .22), (.026, .26), (.034, .3),
                    (.031, .3), (.022, .26)],
         "amphora": [(.0, 0), (.045, 0), (.05, .01), (.09, .12), (.1, .19), (.07, .25), (.05, .27), (.06, .3),
                     (.055, .3), (.045, .27)],
         "cylinder": [(.0, 0), (.055, 0), (.06, .005), (.064, .12), (.068, .25), (.066, .255), (.06, .25), (.058, .1)]}


def build_vase(m, body, shape="bottle", scale=1.0, flowers=None, seed=3):
    """A vase; flowers = petal colours, or None for an empty vase."""
    m.lathe([(r * scale, z * scale) for r, z in VASES[shape]], body)
    if flowers:
        add_flowers(m, flowers, max(z for _, z in VASES[shape]) * scale - .06, seed)


def add_flowers(m, colors, z, seed=3, count=11, reach=0.3):
    rnd = random.Random(seed)
    green = plain("#5a7a3c", rough=.6)
    petals, heart = [plain(c, rough=.6, sheen=.3) for c in colors], plain("#e2b13c", rough=.8)
    for i in range(count):
        a, lean = i * 2.39996, rnd.uniform(.1, .5)
        h = rnd.uniform(.65, 1.0) * reach
        tip = Vector((math.cos(a) * lean * h, math.sin(a) * lean * h, z + h))
        m.tube([(0, 0, z), (math.cos(a) * lean * h * .35, math.sin(a) * lean * h * .35, z + h * .5), tuple(tip)],
               .0025, green, sides=6)
        for k in range(2):
            f = rnd.uniform(.35, .7)
            m.leaf((tip[0] * f, tip[1] * f, z + h * f), a + rnd.uniform(-1.5, 1.5), .6, .07, .028, .8, green)
        mat, size = rnd.choice(petals), rnd.uniform(.026, .038)
        for ring, (n, rise) in enumerate(((9, .25), (7, .75), (5, 1.15))):
            for k in range(n):
                m.leaf(tip, k * 2 * math.pi / n + ring * .3, rise, size, size * .62, .5 - ring * .5, mat)
        m.ball(.014, tip + Vector((0, 0, .006)), heart)


def build_bowl(m, body, inside, radius=0.12, height=0.07):
    r, h = radius, height
    m.lathe([(0, 0), (r * .42, 0), (r * .45, .004), (r * .47, .008), (r * .8, h * .42), (r, h - .002), (r - .001, h)],
            body)
    m.lathe([(r - .001, h), (r - .004, h), (r - .006, h - .003), (r * .76, h * .46), (r * .4, .014), (0, .011)], inside)


def build_oranges(m, z=0.0):
    skin = plain("#e8831f", rough=.45, bump=(300, .15))
    for i in range(5):
        a = i * 2 * math.pi / 5
        m.ball(.062, (.055 * math.cos(a), .055 * math.sin(a), z + .046), skin)
    m.ball(.062, (.004, .002, z + .085), skin)


def build_laptop(m, metal, palette, size=0.33, keys="#1d1f22", lean=108):
    w, d, t = size, size * .69, .016
    shell = plain(metal, rough=.32, metal=.85)
    key, dark = plain(keys, rough=.5), plain("#0b0c0e", rough=.25)
    m.box((w, d, t), (0, 0, t / 2), shell, .005)
    m.box((w * .9, d * .46, .001), (0, d * .13, t), plain("#2a2c30" if keys < "#888888" else "#c9ccd0", rough=.6), 0)
    for row in range(6):
        for col in range(14):
            at = (w * (-.416 + col * .064), d * (.31 - row * .074), t + .0015)
            m.box((w * .052, d * .058, .003), at, key, .0008, 1)
    m.box((w * .36, d * .27, .001), (0, -d * .29, t), plain(metal, rough=.45), 0)
    hinge = Matrix.Translation((0, d / 2 - .004, t)) @ Matrix.Rotation(math.radians(90 - lean), 4, "X")
    lid = d * .96
    m.box((w, .007, lid), (0, 0, lid / 2), shell, .003, matrix=hinge)
    m.box((w * .975, .001, lid * .96), (0, -.0037, lid / 2), dark, 0, matrix=hinge)
    # the picture's shader reads the part's own space, so the panel is built flat and then turned
    panel = m.box((w * .94, .0008, lid * .88), (0, -.0045, lid * .515), picture(palette, w, lid * .9, 1.1,
                  offset=lid * .07), 0)
    panel.matrix_local = hinge


def build_tv(m, palette, width=1.15, frame="#101113", stand="feet", strength=1.0, soft=False, wobble=.35):
    w, h, t = width, width * .57, .035
    lift = .07 if stand == "feet" else .12
    body = plain(frame, rough=.3)
    m.box((w, t, h), (0, 0, lift + h / 2), body, .006)
    panel = m.box((w - .024, .002, h - .03), (0, -t / 2 - .0005, lift + h / 2 + .003),
                  picture(palette, w, h, strength, wobble, scale=2.6, offset=lift, soft=soft), 0)
    panel.data.materials[0].cycles.emission_sampling = "NONE"  # its faint light on the wall would only be noise
    if stand == "feet":
        for s in (-1, 1):
            m.tube([(s * w * .36, 0, lift + .01), (s * w * .38, -.11, .005)], .008, body, smooth=False)
            m.tube([(s * w * .36, 0, lift + .01), (s * w * .38, .11, .005)], .008, body, smooth=False)
    else:
        m.box((w * .08, .02, lift + h * .3), (0, .025, (lift + h * .3) / 2), plain(frame, rough=.3, metal=.6), .004)
        m.box((w * .38, w * .3, .012), (0, .01, .006), plain(frame, rough=.3, metal=.6), .005)


def build_clock(m, rim, face, hands="#191919", accent="#c8452e", radius=0.16, square=False, ticks=12):
    """Faces -y, standing on z = 0 (its middle is at z = radius)."""
    r, up = radius, Matrix.Translation((0, 0, radius)) @ Matrix.Rotation(math.pi / 2, 4, "X")
    if square:
        m.box((2 * r, 2 * r, .03), (0, 0, 0), rim, .012, matrix=up)
        m.box((1.82 * r, 1.82 * r, .004), (0, 0, .0135), face, .01, matrix=up)
    else:
        m.lathe([(0, -.015), (r * .96, -.015), (r, -.008), (r, .016), (r * .98, .022), (r * .93, .022),
                 (r * .91, .014)], rim, matrix=up)
        m.lathe([(0, .014), (r * .93, .014)], face, smooth=False, matrix=up)
    ink, mark = plain(hands, rough=.4), plain(accent, rough=.4)
    for i in range(60 if ticks == 60 else 12):
        big = i % 5 == 0 if ticks == 60 else True
        size = (.011 if i % (15 if ticks == 60 else 3) == 0 else .007, .03, .002) if big else (.003, .014, .002)
        turn = up @ Matrix.Rotation(i * 2 * math.pi / (60 if ticks == 60 else 12), 4, "Z")
        m.box((size[0] * r / .16, size[1] * r / .16, size[2]), (0, r * .79, .0165), ink, 0, matrix=turn)
    for angle, length, width, z, mat in ((-305, .5, .014, .019, ink), (-54, .74, .009, .022, ink),
                                         (-200, .78, .003, .025, mark)):
        turn = up @ Matrix.Rotation(math.radians(angle), 4, "Z")
        m.box((width * r / .16, r * length, .002), (0, r * (length / 2 - .08), z), mat, .0008, 1, matrix=turn)
    m.lathe([(0, .03), (.01 * r / .16, .03), (.01 * r / .16, .015)], mark, smooth=False, matrix=up)


def build_chair(m, frame, seat, kind="slat"):
    h, w, d = .46, .46, .44
    if kind == "shell":
        m.cushion((.5, .46, .07), (0, 0, h), seat, .55, .8)
        m.cushion((.5, .06, .42), (0, .0, .2), seat, .7, .55,
                  matrix=Matrix.Translation((0, .2, h)) @ Matrix.Rotation(math.radians(-14), 4, "X"))
        for sx in (-1, 1):
            for sy in (-1, 1):
                m.tube([(sx * .12, sy * .1, h - .02), (sx * .23, sy * .21, 0)], (.017, .011), frame, smooth=False)
        return
    for sx in (-1, 1):
        m.tube([(sx * (w / 2 - .035), -d / 2 + .04, h), (sx * (w / 2 - .005), -d / 2 + .005, 0)], (.02, .014), frame,
               smooth=False)
        m.tube([(sx * (w / 2), d / 2 + .05, 0), (sx * (w / 2 - .025), d / 2 - .02, h * .6),
                (sx * (w / 2 - .03), d / 2 - .01, h + .1), (sx * (w / 2 - .02), d / 2 + .06, h + .44)],
               .016, frame)
        m.tube([(sx * (w / 2 - .02), -d / 2 + .02, h * .42), (sx * (w / 2 - .02), d / 2 - .0, h * .42)], .01, frame)
    m.box((w - .05, .02, .05), (0, -d / 2 + .045, h - .045), frame, .005)
    m.box((w + .01, d + .02, .028), (0, 0, h), frame, .01)
    m.cushion((w - .01, d - .01, .075), (0, -.005, h + .03), seat, .3, .6)
    levels = (.17, .28, .39) if kind == "slat" else (.3,)
    for level in levels:
        tall = .06 if kind == "slat" else .26
        back = [(x * (w - .06), d / 2 + .012 + level * .13 + .035 * (1 - (2 * x) ** 2))
                for x in np.linspace(-.5, .5, 13)]
        v = [(x, y + dy, h + level + dz) for x, y in back
             for dy, dz in ((-.009, -tall / 2), (-.009, tall / 2), (.009, tall / 2), (.009, -tall / 2))]
        faces = grid_faces(13, 4, True) + [(0, 1, 2, 3), (48, 49, 50, 51)]
        m.add(v, faces, seat if kind == "panel" else frame, 30)


def build_couch(m, cloth, legs, width=1.95, seats=2, arm=0.17, back=0.48, throws=()):
    """throws = colours of loose cushions, from the left."""
    d, seat_h = .9, .43
    m.box((width - .06, d - .03, .2), (0, 0, .23), cloth, .03, 4)
    for s in (-1, 1):
        m.box((arm, d, .36), (s * (width - arm) / 2, 0, .3), cloth, .05, 5)
        roll = Matrix.Translation((s * (width - arm) / 2, 0, .54)) @ Matrix.Rotation(math.pi / 2, 4, "X")
        m.cushion((arm + .08, .22, d + .02), (0, 0, 0), cloth, 1, .12, matrix=roll)
    m.box((width - arm, .2, back + .1), (0, d / 2 - .1, .33 + back / 2), cloth, .07, 5)
    inner = width - 2 * arm - .06
    lean = Matrix.Rotation(math.radians(-12), 4, "X")
    for i in range(seats):
        x = (i + .5) / seats * inner - inner / 2
        m.cushion((inner / seats - .006, d - .2, .2), (x, -.1, seat_h - .02), cloth, .16, .32)
        m.cushion((inner / seats - .01, .24, back), (0, 0, 0), cloth, .3, .38,
                  matrix=Matrix.Translation((x, d / 2 - .27, seat_h + back * .5)) @ lean)
    for i, color in enumerate(throws):
        side = -1 if i % 2 == 0 else 1
        at = Matrix.Translation((side * (inner / 2 - .17 - .2 * (i // 2)), -.06 - .08 * (i // 2), seat_h + .27))
        turn = Matrix.Rotation(math.radians(-side * 28), 4, "Z") @ Matrix.Rotation(math.radians(-22), 4, "X")
        m.cushion((.44, .17, .44), (0, 0, 0), plain(color, rough=.9, sheen=.3), .45, .5, matrix=at @ turn)
    for sx in (-1, 1):
        for sy in (-1, 1):
            m.tube([(sx * (width / 2 - .1), sy * (d / 2 - .1), .14), (sx * (width / 2 - .07), sy * (d / 2 - .07), 0)],
                   (.025, .016), legs, smooth=False)


def build_teddy(m, fur, pale, bow=None):
    soft = plain(fur, rough=.95, sheen=.6, bump=(110, .9))
    light = plain(pale, rough=.95, sheen=.5, bump=(110, .9))
    black = plain("#120c09", rough=.15, coat=.5)
    m.ball((.24, .2, .26), (0, 0, .13), soft)
    m.ball((.17, .08, .18), (0, -.075, .13), light)
    m.ball((.22, .2, .2), (0, -.015, .335), soft)
    m.ball((.1, .09, .075), (0, -.105, .312), light)
    m.ball((.034, .022, .024), (0, -.15, .332), black)
    m.tube([(0, -.152, .322), (0, -.151, .305)], .003, black, sides=8)
    m.tube([(-.022, -.142, .3), (0, -.151, .303), (.022, -.142, .3)], .003, black, sides=8)
    for s in (-1, 1):
        m.ball(.021, (s * .042, -.104, .362), black)
        m.ball((.085, .05, .085), (s * .088, 0, .42), soft)
        m.ball((.052, .03, .052), (s * .088, -.017, .42), light)
        arm = Matrix.Translation((s * .12, -.05, .2)) @ Matrix.Rotation(s * .75, 4, "Y") @ Matrix.Rotation(.6, 4, "X")
        m.ball((.078, .078, .19), (0, 0, -.05), soft, arm)
        leg = Matrix.Translation((s * .085, -.13, .05)) @ Matrix.Rotation(s * .25, 4, "Z")
        m.ball((.1, .2, .1), (0, 0, 0), soft, leg)
        m.ball((.085, .04, .1), (0, -.088, .014), soft, leg)
        m.ball((.06, .02, .07), (0, -.106, .014), light, leg)
    if bow:
        ribbon = plain(bow, rough=.5, sheen=.4)
        m.lathe([(.088, -.013), (.1, 0), (.088, .013)], ribbon, matrix=Matrix.Translation((0, -.005, .247)))
        for s in (-1, 1):
            m.ball((.07, .025, .045), (s * .036, -.112, .243), ribbon, None)
        m.ball(.024, (0, -.118, .243), ribbon)


# ------------------------------------------------------------------------------- the catalogue
HILLS = ["#16233f", "#24406b", "#3f6f93", "#7fb0b5", "#f0c88a", "#f5e3c0"]
DUNES = ["#3b1c2e", "#7a2e3a", "#c4573a", "#e99a4e", "#f6cf86", "#8fb8c9"]
LAGOON = ["#0d3b3e", "#136f63", "#22aaa1", "#7fd8be", "#fcefef", "#9ad1f0"]
DUSK = ["#0b1026", "#2a1f4f", "#5b2a74", "#a33b7e", "#f0788c", "#ffd0a8"]

class Product(NamedTuple):
    build: Callable
    arguments: Callable  # made when the product is built, so that its materials belong to the scene of the moment
    category: str
    coco_label: str
    title: str
    description: str
    brand: str
    price: float
    color: str
    material: str


PRODUCTS = {product_id: Product(*fields) for product_id, fields in {
    # ---- in the film
    "mug-teal": (
        build_mug, lambda: dict(body=ceramic("#2e7f86"), radius=.046, height=.1),
        "drinkware", "cup", "Lagoon mug, teal",
        "Teal glazed mug, white inside.",
        "Halden Clay", 16.5, "teal", "stoneware"),
    "bottle-green-cider": (
        build_bottle, lambda: dict(glass=plain("#15381f", rough=.06, coat=.8), label=plain("#f2e8cf", rough=.6),
            foil=plain("#b98d3a", rough=.3, metal=.8)),
        "bottles", "bottle", "Orchard dry cider, 75 cl",
        "Dry sparkling cider in a dark green bottle.",
        "Orrin & Vale", 11.9, "dark green", "glass"),
    "plant-broad-white": (
        build_plant, lambda: dict(body=ceramic("#efece4")),
        "vases-and-plants", "potted plant", "Broadleaf in white pot",
        "Easy broadleaf house plant in a white ceramic pot.",
        "Fernwick", 34.0, "green and white", "plant, ceramic"),
    "clock-white-walnut": (
        build_clock, lambda: dict(rim=wood("#8a5a34", "#5a3519"), face=plain("#f7f3ea", rough=.5)),
        "clocks", "clock", "Meridian wall clock, walnut",
        "Wall clock with a walnut rim and a plain white face.",
        "Tolmen", 59.0, "walnut and white", "wood"),
    "bowl-blue-rim": (
        build_bowl, lambda: dict(body=ceramic("#2f5f8f"), inside=ceramic("#f3eee2")),
        "tableware", "bowl", "Harbour serving bowl",
        "Serving bowl, deep blue outside and cream inside.",
        "Halden Clay", 28.0, "blue and cream", "stoneware"),
    "laptop-silver-14": (
        build_laptop, lambda: dict(metal="#c9cbce", palette=HILLS),
        "computers", "laptop", "Lumo 14 laptop, silver",
        "Slim 14 inch laptop in silver aluminium.",
        "Lumo", 1099.0, "silver", "aluminium"),
    "couch-teal-2": (
        build_couch, lambda: dict(cloth=plain("#2f6f73", rough=.9, sheen=.4, bump=(260, .25)),
            legs=wood("#9a6a3c", "#6b4423"), throws=("#e0b65a",)),
        "seating", "couch", "Fjord two-seat sofa, teal",
        "Two-seat sofa in teal weave with oak legs.",
        "Nordhaven", 890.0, "teal", "fabric, oak"),
    "chair-oak-mustard": (
        build_chair, lambda: dict(frame=wood("#b98850", "#8a5f33", (12, 12, 1)),
            seat=plain("#d19a2a", rough=.9, sheen=.3, bump=(300, .2))),
        "seating", "chair", "Slat chair, mustard seat",
        "Oak dining chair with three slats and a mustard cushion.",
        "Nordhaven", 149.0, "oak and mustard", "oak, fabric"),
    "tv-dusk-50": (
        build_tv, lambda: dict(palette=DUSK, soft=True, wobble=.7, width=1.05),
        "tv-and-monitors", "tv", "Panora 50 television",
        "50 inch television with a slim black frame.",
        "Panora", 649.0, "black", "plastic, glass"),
    "teddy-honey": (
        build_teddy, lambda: dict(fur="#b07a3e", pale="#e3c08c", bow="#b0353f"),
        "toys", "teddy bear", "Barnaby bear, honey",
        "Soft honey-coloured teddy bear with a red bow.",
        "Puddle & Co", 27.5, "honey brown", "plush"),
    "vase-ochre-amphora": (
        build_vase, lambda: dict(body=speckled("#dcb98a", "#8b5a2f"), shape="amphora"),
        "vases-and-plants", "vase", "Amphora vase, ochre",
        "Full-bellied speckled ochre vase.",
        "Halden Clay", 42.0, "ochre", "stoneware"),
    # ---- not in the film
    "mug-terracotta-dip": (
        build_mug, lambda: dict(body=banded(.098, [(0, "#c4532f"), (.5, "#f1e6d4")])),
        "drinkware", "cup", "Terracotta dip mug",
        "Cream mug, the lower half dipped in terracotta glaze.",
        "Halden Clay", 17.0, "cream and terracotta", "stoneware"),
    "mug-navy-plain": (
        build_mug, lambda: dict(body=ceramic("#22325a")),
        "drinkware", "cup", "Navy mug",
        "Plain navy glazed mug.",
        "Halden Clay", 14.5, "navy", "stoneware"),
    "mug-sage-belly": (
        build_mug, lambda: dict(body=speckled("#b9c4a5", "#55603f"), belly=.18, height=.085),
        "drinkware", "cup", "Sage belly mug",
        "Round-bellied speckled mug in sage.",
        "Fernwick", 18.0, "sage", "stoneware"),
    "mug-stripes-blue": (
        build_mug, lambda: dict(
            body=banded(.11, [(0, "#f4f1ea"), (.2, "#3b6ea5"), (.32, "#f4f1ea"),
            (.44, "#3b6ea5"), (.56, "#f4f1ea"), (.68, "#3b6ea5"), (.8, "#f4f1ea")]),
            height=.11, radius=.04),
        "drinkware", "cup", "Sailor stripe mug",
        "Tall mug with three blue stripes.",
        "Tolmen", 15.0, "white and blue", "porcelain"),
    "bottle-amber-burgundy": (
        build_bottle, lambda: dict(glass=plain("#5a2a0c", rough=.06, coat=.8), label=plain("#20242b", rough=.6),
            foil=plain("#1d1d20", rough=.4), shape="burgundy", label_mark="#c9a24b"),
        "bottles", "bottle", "Old cellar red, 75 cl",
        "Red wine in an amber sloping bottle.",
        "Orrin & Vale", 17.5, "amber", "glass"),
    "bottle-steel-flask": (
        build_bottle, lambda: dict(glass=plain("#8fb3b8", rough=.35, metal=.2), label=None,
            foil=plain("#26282b", rough=.4), shape="flask", height=.25),
        "bottles", "bottle", "Trail flask, ice blue",
        "Insulated steel flask with a black lid.",
        "Kestrel", 32.0, "ice blue", "steel"),
    "plant-snake-black": (
        build_plant, lambda: dict(body=plain("#2b2b2d", rough=.5), kind="snake", leaves=("#3d6b3a", "#7d9a4a")),
        "vases-and-plants", "potted plant", "Snake plant in black pot",
        "Upright snake plant in a matt black pot.",
        "Fernwick", 39.0, "green and black", "plant, ceramic"),
    "plant-fern-terracotta": (
        build_plant, lambda: dict(body=plain("#b5623c", rough=.8), kind="fern", leaves=("#4f8f3a", "#86b957"),
            seed=5),
        "vases-and-plants", "potted plant", "Fern in terracotta",
        "Narrow-leaved fern in a terracotta pot.",
        "Fernwick", 26.0, "green and terracotta", "plant, terracotta"),
    "clock-black-white": (
        build_clock, lambda: dict(rim=plain("#17181a", rough=.3), face=plain("#fbfbf8", rough=.5), ticks=60),
        "clocks", "clock", "Station clock, black",
        "Railway style clock with sixty marks.",
        "Tolmen", 64.0, "black and white", "steel"),
    "clock-square-mint": (
        build_clock, lambda: dict(rim=plain("#7fb8a4", rough=.35), face=plain("#eef5f0", rough=.5), square=True),
        "clocks", "clock", "Square clock, mint",
        "Square kitchen clock in mint.",
        "Kestrel", 38.0, "mint", "plastic"),
    "bowl-charcoal": (
        build_bowl, lambda: dict(body=speckled("#3b3b3e", "#77777c"), inside=ceramic("#55565a"), radius=.11,
            height=.085),
        "tableware", "bowl", "Basalt bowl",
        "Deep charcoal bowl with pale flecks.",
        "Halden Clay", 24.0, "charcoal", "stoneware"),
    "laptop-graphite-15": (
        build_laptop, lambda: dict(metal="#3c3f45", palette=LAGOON, size=.36),
        "computers", "laptop", "Lumo 15 laptop, graphite",
        "15 inch laptop in graphite.",
        "Lumo", 1399.0, "graphite", "aluminium"),
    "laptop-rose-13": (
        build_laptop, lambda: dict(metal="#d9a8a0", palette=DUSK, size=.3, keys="#f3efec"),
        "computers", "laptop", "Wisp 13 laptop, rose",
        "Light 13 inch laptop in rose with white keys.",
        "Wisp", 799.0, "rose", "aluminium"),
    "couch-sand-3": (
        build_couch, lambda: dict(cloth=plain("#c9b491", rough=.9, sheen=.3, bump=(260, .25)),
            legs=plain("#1c1c1c", rough=.4), width=2.3, seats=3, arm=.22),
        "seating", "couch", "Dune three-seat sofa, sand",
        "Deep three-seat sofa in sand linen.",
        "Nordhaven", 1190.0, "sand", "linen"),
    "couch-rust-2": (
        build_couch, lambda: dict(cloth=plain("#a44a2a", rough=.8, sheen=.5), legs=wood("#5b3a22", "#3a2212"),
            width=1.7, arm=.12, back=.42),
        "seating", "couch", "Ember loveseat, rust",
        "Compact loveseat in rust velvet.",
        "Nordhaven", 720.0, "rust", "velvet"),
    "chair-shell-white": (
        build_chair, lambda: dict(frame=wood("#c39a62", "#94683a", (12, 12, 1)), seat=plain("#d9d6cf", rough=.4),
            kind="shell"),
        "seating", "chair", "Shell chair, white",
        "Moulded white seat on beech legs.",
        "Kestrel", 89.0, "white", "plastic, beech"),
    "chair-black-panel": (
        build_chair, lambda: dict(frame=plain("#1b1b1d", rough=.45), seat=plain("#8b2f2f", rough=.8, sheen=.3),
            kind="panel"),
        "seating", "chair", "Panel chair, black and red",
        "Black chair with a padded red back and seat.",
        "Nordhaven", 129.0, "black and red", "steel, fabric"),
    "monitor-lagoon-27": (
        build_tv, lambda: dict(palette=LAGOON, width=.62, frame="#2a2c2f", stand="foot"),
        "tv-and-monitors", "tv", "Lumo 27 monitor",
        "27 inch desk monitor on a flat foot.",
        "Lumo", 329.0, "dark grey", "plastic, glass"),
    "tv-dunes-65": (
        build_tv, lambda: dict(palette=DUNES, width=1.45, frame="#c6c8ca", stand="foot"),
        "tv-and-monitors", "tv", "Panora 65 television, silver",
        "65 inch television with a silver frame and centre stand.",
        "Panora", 1149.0, "silver", "plastic, glass"),
    "teddy-grey": (
        build_teddy, lambda: dict(fur="#8d8f94", pale="#dcdcdc"),
        "toys", "teddy bear", "Pebble bear, grey",
        "Soft grey teddy bear.",
        "Puddle & Co", 24.0, "grey", "plush"),
    "vase-white-bottle": (
        build_vase, lambda: dict(body=ceramic("#d8d5ce"), shape="bottle"),
        "vases-and-plants", "vase", "Bottle vase, white",
        "Slender-necked white vase.",
        "Halden Clay", 36.0, "white", "porcelain"),
    "vase-cobalt-cylinder": (
        build_vase, lambda: dict(body=ceramic("#24479a"), shape="cylinder"),
        "vases-and-plants", "vase", "Cylinder vase, cobalt",
        "Straight cobalt blue vase.",
        "Tolmen", 31.0, "cobalt", "porcelain"),
}.items()}


def build_product(product_id):
    model = Model(product_id, product_id)
    PRODUCTS[product_id].build(model, **PRODUCTS[product_id].arguments())
    return model


# ------------------------------------------------------------------------------ scene plumbing
def new_scene(width, height, samples):
    """An empty scene, set up for quick Cycles renders on the CPU."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = width, height, 100
    scene.render.use_persistent_data = True
    scene.render.image_settings.file_format = "PNG"
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - Medium High Contrast"
    c = scene.cycles
    c.device, c.seed, c.samples = "CPU", SEED, samples
    c.use_adaptive_sampling, c.adaptive_threshold = True, 0.03
    c.use_denoising, c.denoiser = True, "OPENIMAGEDENOISE"
    c.denoising_input_passes, c.denoising_prefilter = "RGB_ALBEDO_NORMAL", "FAST"
    c.max_bounces, c.diffuse_bounces, c.glossy_bounces, c.transmission_bounces = 4, 3, 2, 2
    c.caustics_reflective = c.caustics_refractive = False
    c.sample_clamp_indirect = 4.0
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.sensor_width, camera.data.clip_start = SENSOR, 0.01
    scene.collection.objects.link(camera)
    scene.camera = camera
    return scene, camera


def set_world(color, strength):
    world = bpy.data.worlds.new("world")
    world.use_nodes = True
    node = world.node_tree.nodes["Background"]
    node.inputs["Color"].default_value, node.inputs["Strength"].default_value = rgba(color), strength
    bpy.context.scene.world = world


def area_light(at, target, size, power, color):
    light = bpy.data.lights.new("area", "AREA")
    light.shape, light.size, light.size_y = "RECTANGLE", size[0], size[1]
    light.energy, light.color = power, rgba(color)[:3]
    obj = bpy.data.objects.new("area", light)
    obj.matrix_world = look_at(at, target)
    bpy.context.scene.collection.objects.link(obj)


def look_at(eye, target):
    back = (Vector(eye) - Vector(target)).normalized()
    right = Vector((0, 0, 1)).cross(back).normalized()
    up = back.cross(right)
    m = Matrix((right, up, back)).transposed().to_4x4()
    m.translation = eye
    return m


def ease(t):
    return t * t * (3 - 2 * t)


def along(t, keys):
    """Eased value at t of [(time, vector), ...]."""
    for (t0, a), (t1, b) in zip(keys, keys[1:]):
        if t <= t1:
            k = ease((t - t0) / (t1 - t0))
            return np.array(a) + (np.array(b) - np.array(a)) * k
    return np.array(keys[-1][1])


def room(m, wall_y, wall, floor, skirting="#efe7da"):
    m.box((14, .1, 5), (0, wall_y + .05, 2.5), wall, 0)
    m.box((14, 14, .1), (0, 0, -.05), floor, 0)
    m.box((14, .02, .12), (0, wall_y - .01, .06), plain(skirting, rough=.4), .004)


# ------------------------------------------------------------------------------------ the sets
def build_desk_set():
    """A warm desk against a wall: small things, close to the camera."""
    props = Model("desk-set")
    room(props, .46, plain("#d9b08c", rough=.9, bump=(60, .12)), wood("#8b6238", "#5f3f22", (12, 1, 1)))
    oak = wood("#c08a55", "#8c5c30", (1, 14, 14), rough=.35)
    props.box((2.3, .8, .035), (.1, .02, .7225), oak, .008)
    for x in (-.95, 1.15):
        for y in (-.3, .34):
            props.tube([(x, y, .72), (x, y, 0)], .03, oak, smooth=False)
    build_oranges(Model("oranges").place(.72, -.06, .74))
    set_world("#ffe9d2", .35)
    area_light((-2.0, -1.0, 2.6), (0, 0, .75), (1.4, 1.4), 85, "#fff0dc")
    area_light((1.8, -1.8, 1.9), (.3, 0, .8), (1.2, 1.2), 28, "#ffd9b0")
    return [build_product(i).place(*at) for i, at in (
        ("laptop-silver-14", (0, .02, .74, -8)), ("mug-teal", (-.33, -.12, .74, -40)),
        ("bottle-green-cider", (-.47, .16, .74)), ("plant-broad-white", (.42, .16, .74)),
        ("bowl-blue-rim", (.72, -.06, .74)), ("clock-white-walnut", (-.2, .435, 1.005, 0, .85)))]


def build_lounge_set():
    """A living room: furniture, further away."""
    props = Model("lounge-set")
    room(props, .62, plain("#b9b596", rough=.9), wood("#b07d4b", "#7d532c", (1, 9, 1), rough=.35))
    props.box((3.6, 2.1, .012), (-.1, -.75, .006), plain("#e4d6bf", rough=1, bump=(200, .6)), .005)
    cabinet = wood("#9b6a3e", "#6d4526", (1, 12, 12))
    props.box((2.0, .45, .42), (2.15, .35, .31), cabinet, .012)
    for x in (1.25, 3.05):
        props.box((.05, .4, .1), (x, .35, .05), cabinet, .004)
    for x in (1.66, 2.15, 2.64):
        props.box((.006, .004, .38), (x, .123, .31), plain("#3d2514"), 0)
    add_flowers(Model("flowers").place(1.32, .3, .52), ["#e9e2d0", "#e4a69a", "#d8654f"], .24, count=11, reach=.34)
    set_world("#fff0dd", .35)
    area_light((-1.6, -2.6, 2.9), (.3, 0, .4), (2.2, 1.6), 150, "#fff1de")
    area_light((3.6, -2.2, 2.3), (1.6, 0, .5), (1.6, 1.6), 65, "#ffdcb4")
    return [build_product(i).place(*at) for i, at in (
        ("couch-teal-2", (-.85, -.12, 0, 12)), ("teddy-honey", (-.4, -.18, .475, 8, 1.12)),
        ("chair-oak-mustard", (.72, -.25, 0, -32)), ("tv-dusk-50", (2.25, .33, .52, 0)),
        ("vase-ochre-amphora", (1.32, .3, .52)))]


# name, frames, builder, lens in mm, camera path: [(time 0..1, (eye), (target))]
SETS = [
    ("desk", 84, build_desk_set, 42, [(0, (-.30, -1.2, 1.16), (-.20, .1, .915)),
                                      (.5, (.52, -1.2, 1.16), (.50, .1, .90)),
                                      (1, (-.12, -1.28, 1.16), (-.08, .1, .925))]),
    ("lounge", 84, build_lounge_set, 38, [(0, (-.75, -3.8, 1.32), (-.62, 0, .55)),
                                          (.35, (-.45, -3.7, 1.28), (-.40, 0, .56)),
                                          (1, (1.55, -3.2, 1.20), (1.75, 0, .60))]),
]
TOTAL_FRAMES = sum(s[1] for s in SETS)


def camera_at(path, t):
    eye = along(t, [(k[0], k[1]) for k in path])
    target = along(t, [(k[0], k[2]) for k in path])
    return look_at(Vector(eye), Vector(target))


def sets_in(first, last):
    """For every set with frames in [first, last): its scene built, then (frame, camera matrix) to visit."""
    start = 0
    for name, count, builder, lens, path in SETS:
        wanted = range(max(first, start), min(last, start + count))
        if wanted:
            scene, camera = new_scene(WIDTH, HEIGHT, FILM_SAMPLES)
            camera.data.lens = lens
            models = builder()
            bpy.context.view_layer.update()
            yield name, scene, camera, models, [(f, camera_at(path, (f - start) / (count - 1))) for f in wanted]
        start += count


# ---------------------------------------------------------------------------------- the outputs
def render_film(out, first, last):
    frames = out / "frames"
    frames.mkdir(parents=True, exist_ok=True)
    for _, scene, camera, _, shots in sets_in(first, last):
        for frame, matrix in shots:
            file = frames / f"{frame:04d}.png"
            if not file.exists():
                camera.matrix_world = matrix
                scene.render.filepath = str(file)
                bpy.ops.render.render(write_still=True)


def encode_film(out):
    """All frames -> film.mp4 (BT.709, limited range, web-ready)."""
    import av
    from PIL import Image
    with av.open(str(out / "film.mp4"), "w", options={"movflags": "+faststart"}) as box:
        stream = box.add_stream("libx264", rate=FPS, options={"crf": str(X264_CRF), "preset": "slow", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, "yuv420p", 2 * FPS
        colors = stream.codec_context
        colors.colorspace = colors.color_primaries = colors.color_trc = 1  # BT.709
        colors.color_range = 1  # limited
        for i in range(TOTAL_FRAMES):
            image = Image.open(out / "frames" / f"{i:04d}.png").convert("RGB")
            picture_709 = av.VideoFrame.from_image(image).reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            for packet in stream.encode(picture_709):
                box.mux(packet)
        for packet in stream.encode():
            box.mux(packet)


def world_mesh(model):
    """Vertices (world space) and triangles-or-quads of all parts of a model."""
    vertices, faces = [], []
    for obj in model.parts:
        base, matrix = len(vertices), obj.matrix_world
        vertices += [matrix @ v.co for v in obj.data.vertices]
        faces += [tuple(base + i for i in p.vertices) for p in obj.data.polygons]
    return vertices, faces


def project(points, matrix, lens, width=WIDTH, height=HEIGHT):
    """World points -> pixels, y down.  The film's cameras keep every product in front of them."""
    inverse = np.array(matrix.inverted())
    p = np.c_[points, np.ones(len(points))] @ inverse.T
    f = lens / SENSOR * width
    return np.stack([width / 2 + f * p[:, 0] / -p[:, 2], height / 2 - f * p[:, 1] / -p[:, 2]], 1)


def visible_fraction(tree, product_id, box, scene, depsgraph, matrix, lens):
    """Share of the product's whole silhouette (also beyond the frame's edge) that the camera sees."""
    x0, y0, x1, y1 = box
    f, eye, turn = lens / SENSOR * WIDTH, matrix.translation, matrix.to_3x3()
    whole = seen = 0
    for i in range(VISIBILITY_RAYS):
        for j in range(VISIBILITY_RAYS):
            x = x0 + (x1 - x0) * (i + .5) / VISIBILITY_RAYS
            y = y0 + (y1 - y0) * (j + .5) / VISIBILITY_RAYS
            ray = (turn @ Vector(((x - WIDTH / 2) / f, -(y - HEIGHT / 2) / f, -1))).normalized()
            if tree.ray_cast(eye, ray)[0] is None:
                continue
            whole += 1
            if 0 <= x < WIDTH and 0 <= y < HEIGHT:
                hit, _, _, _, obj, _ = scene.ray_cast(depsgraph, eye, ray)
                seen += bool(hit and obj.get("product_id") == product_id)
    return seen / whole if whole else 0.0


def write_ground_truth(out):
    frames = []
    for name, scene, camera, models, shots in sets_in(0, TOTAL_FRAMES):
        depsgraph = bpy.context.evaluated_depsgraph_get()
        meshes = [(m, *world_mesh(m)) for m in models]
        meshes = [(m, np.array(v), BVHTree.FromPolygons(v, f)) for m, v, f in meshes]
        lens = camera.data.lens
        for frame, matrix in shots:
            visible = []
            for model, vertices, tree in meshes:
                p = project(vertices, matrix, lens)
                whole = [*p.min(0), *p.max(0)]
                box = [max(whole[0], 0), max(whole[1], 0), min(whole[2], WIDTH), min(whole[3], HEIGHT)]
                if box[2] - box[0] < 2 or box[3] - box[1] < 2:
                    continue
                share = visible_fraction(tree, model.product_id, whole, scene, depsgraph, matrix, lens)
                if share >= MIN_VISIBILITY:
                    visible.append({"product_id": model.product_id, "category": PRODUCTS[model.product_id].category,
                                    "coco_label": PRODUCTS[model.product_id].coco_label,
                                    "box": [round(float(b), 1) for b in box], "visibility": round(share, 3)})
            frames.append({"frame": frame, "time": round(frame / FPS, 4), "set": name, "products": visible})
    truth = {"film": "film.mp4", "width": WIDTH, "height": HEIGHT, "fps": FPS,
             "box": "x1, y1, x2, y2 in pixels: the whole product's outline, clipped to the frame",
             "visibility": "share of the product's whole outline, including what is beyond the frame, that is seen",
             "frames": frames}
    text = json.dumps(truth, indent=None, separators=(",", ":"))
    (out / "ground_truth.json").write_text(text.replace('{"frame"', '\n{"frame"') + "\n")


# Studio views: azimuth and elevation in degrees of the camera, and from which side the key light comes.
VIEWS = [(28, 20, 1), (-38, 26, -1)]
FLAT_VIEWS = {"clocks": [(14, 4, 1), (-24, 10, -1)], "tv-and-monitors": [(20, 8, 1), (-28, 14, -1)],
              "computers": [(24, 24, 1), (-30, 20, -1)]}


def render_photo(product_id, view, file):
    """One product on a pale sweep, framed to fill most of the picture."""
    azimuth, elevation, side = view
    scene, camera = new_scene(PHOTO_SIZE, PHOTO_SIZE, PHOTO_SAMPLES)
    scene.view_settings.view_transform, scene.view_settings.look = "Standard", "None"
    model = build_product(product_id)
    bpy.context.view_layer.update()
    points = np.array(world_mesh(model)[0])
    low, high = points.min(0), points.max(0)
    size, middle = float(np.linalg.norm(high - low)), (low + high) / 2
    backdrop = Model("backdrop")
    arc = np.linspace(0, math.pi / 2, 24)
    path = np.vstack([[(-9, 0)], np.c_[.6 + 3 * np.sin(arc), 3 - 3 * np.cos(arc)], [(3.6, 9)]]) * size
    v = [(x, y, z) for y, z in path for x in (-12 * size, 12 * size)]
    backdrop.add(v, grid_faces(len(path), 2, False), plain("#f3f2f0", rough=.95), 80)
    backdrop.root.rotation_euler = (0, 0, math.radians(azimuth))
    set_world("#ffffff", .7)
    key, fill = (side * 1.6, -1.2, 2, 1.3, 34, "#ffffff"), (-side * 1.8, -1.5, 1, 1.2, 13, "#eef4ff")
    for x, y, z, width, power, color in (key, fill):
        area_light((x * size, y * size, z * size), middle, (width * size, width * size), power * size ** 2, color)
    camera.data.lens, distance = 70, 2.5 * size
    a, e = math.radians(azimuth), math.radians(elevation)
    toward = np.array([math.sin(a) * math.cos(e), -math.cos(a) * math.cos(e), math.sin(e)])
    for _ in range(6):  # move the camera until the product fills 80 % of the picture, in the middle
        matrix = look_at(Vector(middle + toward * distance), Vector(middle))
        p = project(points, matrix, 70, PHOTO_SIZE, PHOTO_SIZE) / PHOTO_SIZE
        offset = (p.min(0) + p.max(0)) / 2 - .5
        unit = distance * SENSOR / 70
        middle = middle + np.array(matrix.to_3x3()) @ np.array([offset[0] * unit, -offset[1] * unit, 0])
        distance *= float((p.max(0) - p.min(0)).max()) / .8
    camera.matrix_world = look_at(Vector(middle + toward * distance), Vector(middle))
    scene.render.image_settings.file_format = "JPEG"
    scene.render.image_settings.quality = 90
    scene.render.filepath = str(file)
    bpy.ops.render.render(write_still=True)


def write_catalog(out, only=None):
    """catalog.jsonl, and the photos that are not there yet."""
    (out / "catalog").mkdir(parents=True, exist_ok=True)
    lines = []
    for product_id, product in PRODUCTS.items():
        images = [f"catalog/{product_id}-{i + 1}.jpg" for i in range(len(VIEWS))]
        lines.append(json.dumps({
            "product_id": product_id, "title": product.title, "description": product.description,
            "category": product.category, "brand": product.brand,
            "price": {"currency_code": "EUR", "units": int(product.price), "nanos": round(product.price % 1 * 1e9)},
            "url": f"{SHOP}/p/{product_id}", "images": images,
            "attributes": {"color": product.color, "material": product.material}}))
        for image, view in zip(images, FLAT_VIEWS.get(product.category, VIEWS)):
            if not (out / image).exists() and (not only or product_id in only):
                render_photo(product_id, view, out / image)
    (out / "catalog.jsonl").write_text("\n".join(lines) + "\n")


def main():
    steps = ("film", "catalog", "truth", "encode")
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--out", type=Path, required=True, help="folder to write to")
    cli.add_argument("--frames", default=f"0:{TOTAL_FRAMES}", metavar="A:B", help="render these frames, B excluded")
    cli.add_argument("--only", nargs="+", choices=steps, default=steps, help="do these steps only")
    cli.add_argument("--product", nargs="+", help="photograph these products only")
    options = cli.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    first, last = (int(v) if v else d for v, d in zip(options.frames.split(":"), (0, TOTAL_FRAMES)))
    if "film" in options.only:
        render_film(out, first, last)
    if "truth" in options.only:
        write_ground_truth(out)
    if "catalog" in options.only:
        write_catalog(out, options.product)
    if "encode" in options.only and len(list((out / "frames").glob("*.png"))) >= TOTAL_FRAMES:
        encode_film(out)


if __name__ == "__main__":
    main()
