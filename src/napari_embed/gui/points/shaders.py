"""The programs of the graphics card for points and markers.

Uniforms stand one to a line: vispy's parser overlooks lists of them.
"""

from __future__ import annotations

__all__ = ["FRAGMENT", "VERTEX"]

VERTEX = """
attribute vec3 a_position;
attribute float a_place;
uniform mat3 u_axes;
uniform sampler2D u_state;
uniform float u_lines;
uniform float u_first_line;
uniform sampler2D u_table;
uniform float u_has_shapes;
uniform float u_pass;
uniform float u_dim;
uniform float u_hill;
uniform float u_size;
uniform float u_size_min;
uniform float u_size_max;
uniform float u_center_w;
uniform float u_depth_near;
uniform float u_depth_far;
uniform float u_fog;
uniform vec3 u_background;
uniform float u_alpha;
uniform float u_selected_size;
uniform float u_selected_growth;
varying vec4 v_color;
varying float v_size;
varying float v_shape;
varying float v_selected;

void main() {
    // Divisions by powers of two are exact, so the place is found to the point.
    float line = floor(a_place / 4096.0);
    float cell = a_place - line * 4096.0;
    vec2 place = vec2((cell + 0.5) / 4096.0, (line + u_first_line + 0.5) / u_lines);
    vec4 bytes = texture2D(u_state, place);
    float state = floor(bytes.r * 255.0 + 0.5) + 256.0 * floor(bytes.a * 255.0 + 0.5);
    float hidden = floor(state / 8192.0);
    float rest = state - hidden * 8192.0;
    float selected = floor(rest / 4096.0);
    float row = rest - selected * 4096.0;
    bool skipped = hidden > 0.5
        || (u_pass > 0.5 && u_pass < 1.5 && selected > 0.5)
        || (u_pass > 1.5 && u_pass < 2.5 && selected < 0.5);
    v_color = vec4(0.0);
    v_size = 0.0;
    v_shape = 0.0;
    v_selected = 0.0;
    if (skipped) {
        gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
        gl_PointSize = 1.0;
        return;
    }
    gl_Position = $transform(vec4(u_axes * a_position, 1.0));
    float depth = gl_Position.z / gl_Position.w;
    float far = clamp((depth - u_depth_near) / (u_depth_far - u_depth_near), 0.0, 1.0);

    float size = u_size * u_center_w / gl_Position.w;
    size *= 1.0 + u_fog * (0.35 - 0.5 * far);
    size = clamp(size, u_size_min, u_size_max);
    if (u_pass > 1.5 && u_pass < 2.5) {
        size = size * u_selected_size + u_selected_growth;
        v_selected = 1.0;
    }
    if (u_pass > 2.5) {
        size = u_hill;
    }
    gl_PointSize = size;
    v_size = size;

    float column = (row + 0.5) / 4096.0;
    vec4 color = texture2D(u_table, vec2(column, 0.25));
    if (u_has_shapes > 0.5) {
        v_shape = floor(texture2D(u_table, vec2(column, 0.75)).r * 255.0 + 0.5);
    }
    if (u_pass > 2.5) {
        // Added up: colour and, in the alpha channel, how much of a point.
        float weight = 1.0;
        if (u_dim > 0.5 && selected < 0.5) {
            float light = dot(color.rgb, vec3(0.3, 0.6, 0.1));
            color.rgb = mix(vec3(light), vec3(0.5), 0.6);
            weight = 0.2;
        }
        v_color = vec4(color.rgb, weight);
        return;
    }
    color.rgb = mix(color.rgb, u_background, u_fog * far);
    if (u_pass > 0.5 && u_pass < 1.5) {
        float grey = dot(color.rgb, vec3(0.3, 0.6, 0.1));
        color.rgb = mix(mix(vec3(grey), vec3(0.5), 0.5), color.rgb, 0.65);
    }
    color.a *= u_alpha;
    v_color = color;
}
"""

FRAGMENT = """
uniform float u_pass;
uniform float u_shading;
uniform vec4 u_rim;
varying vec4 v_color;
varying float v_size;
varying float v_shape;
varying float v_selected;

float star(vec2 p) {
    // Five points, one of them up; mirrored and turned onto one of ten sides.
    float angle = atan(p.x, -p.y);
    float part = 1.2566371;
    angle = abs(mod(angle + 0.5 * part, part) - 0.5 * part);
    vec2 q = length(p) * vec2(sin(angle), cos(angle));
    return q.y + 1.75 * q.x;
}

float radius_of(vec2 p) {
    // Distance from the centre, 1 on the outline of the marker.
    vec2 q = abs(p);
    if (v_shape < 0.5) return length(p);
    if (v_shape < 1.5) return max(q.x, q.y) * 1.13;
    if (v_shape < 2.5) return q.x + q.y;
    if (v_shape < 3.5) return max(q.x * 1.15 - p.y * 0.57 + 0.2, p.y * 1.15 + 0.2);
    if (v_shape < 4.5) return max(q.x * 1.15 + p.y * 0.57 + 0.2, -p.y * 1.15 + 0.2);
    if (v_shape < 5.5) return max(max(q.x, q.y), 0.62 + min(q.x, q.y) * 1.2);
    if (v_shape < 6.5) {
        vec2 r = abs(vec2(p.x + p.y, p.x - p.y)) * 0.7071;
        return max(max(r.x, r.y), 0.62 + min(r.x, r.y) * 1.2);
    }
    if (v_shape < 7.5) {
        float d = length(p);
        return max(d, 1.0 - (d - 0.55) * 2.0);
    }
    return star(p);
}

void main() {
    if (v_size < 0.5) discard;
    vec2 p = gl_PointCoord * 2.0 - 1.0;
    if (u_pass > 2.5) {
        float hill = max(0.0, 1.0 - dot(p, p));
        // In a few pixels the middle may fall between them: keep the sum.
        float w = v_color.a * (v_size < 3.0 ? 0.26 : hill * hill);
        gl_FragColor = vec4(v_color.rgb * w, w);
        return;
    }
    float r = radius_of(p);
    float inside = (1.0 - r) * v_size * 0.5;
    float alpha = v_size > 2.5 ? clamp(inside + 0.5, 0.0, 1.0) : 1.0;
    if (alpha < 0.2) discard;
    vec3 rgb = v_color.rgb;
    if (v_size > 4.5) {
        rgb *= 1.0 - u_shading * r * r;
    }
    if (v_selected > 0.5) {
        float rim = clamp(1.4 - inside, 0.0, 1.0);
        rim *= clamp((v_size - 6.0) / 6.0, 0.0, 1.0);
        rgb = mix(rgb, u_rim.rgb, rim * u_rim.a);
    }
    gl_FragColor = vec4(rgb, v_color.a * alpha);
}
"""
